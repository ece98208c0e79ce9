"""Every published network that a metric can use, with its files and their sources.

`xbench metrics fetch NAME` downloads them. A sha256, or its beginning, is listed where the
publisher gives one; of every other file the computed hash goes into the recipe.
"""

from metrics.weights.files import RemoteFile, Weights

_ANNOTATORS = "hf://lllyasviel/Annotators"


# Megabytes are those of the architectures' tensors in float32; None: not built at full size here.


def _hub(
    name: str,
    title: str,
    repository: str,
    *files: str,
    license: str,
    megabytes: int | None = None,
) -> Weights:
    remote = tuple(RemoteFile(file, f"hf://{repository}/{file}") for file in files)
    return Weights(name, title, remote, license, megabytes)


def _annotator(name: str, title: str, file: str, *, license: str, megabytes: int) -> Weights:
    remote = (RemoteFile(file, f"{_ANNOTATORS}/{file}"),)
    return Weights(name, title, remote, license, megabytes)


def _torchvision(name: str, title: str, file: str, sha256: str, *, megabytes: int) -> Weights:
    remote = RemoteFile(file, f"https://download.pytorch.org/models/{file}", sha256)
    return Weights(name, title, (remote,), "BSD-3-Clause", megabytes)


# Radford et al. 2021, arXiv 2103.00020, as open_clip reads it
CLIP_L14 = _hub(
    "clip-vit-l-14",
    "CLIP ViT-L/14 (OpenAI)",
    "timm/vit_large_patch14_clip_224.openai",
    "open_clip_model.safetensors",
    license="MIT",
    megabytes=1710,
)
CLIP_L14_336 = _hub(
    "clip-vit-l-14-336",
    "CLIP ViT-L/14@336 (OpenAI)",
    "timm/vit_large_patch14_clip_336.openai",
    "open_clip_model.safetensors",
    license="MIT",
    megabytes=1712,
)
# TensorFlow's Inception of 2015, ported by pytorch-fid
INCEPTION = Weights(
    "inception-2015-12-05",
    "Inception-v3 of 2015 (pytorch-fid's port)",
    (
        RemoteFile(
            "pt_inception-2015-12-05-6726825d.pth",
            "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
            "pt_inception-2015-12-05-6726825d.pth",
            "6726825d",
        ),
    ),
    "Apache-2.0",
    megabytes=96,
)
# Oquab et al. 2023, arXiv 2304.07193
DINOV2_L = _hub(
    "dinov2-large",
    "DINOv2 ViT-L/14",
    "facebook/dinov2-large",
    "config.json",
    "model.safetensors",
    license="Apache-2.0",
    megabytes=1217,
)
ALEXNET = _torchvision(
    "alexnet", "AlexNet (torchvision)", "alexnet-owt-7be5be79.pth", "7be5be79", megabytes=244
)
VGG16 = _torchvision(
    "vgg16", "VGG-16 (torchvision)", "vgg16-397923af.pth", "397923af", megabytes=553
)
# Somepalli et al. 2024, arXiv 2404.01292
CSD = _hub(
    "csd-vit-l",
    "CSD ViT-L",
    "tomg-group-umd/CSD-ViT-L",
    "pytorch_model.bin",
    license="MIT",
)
# Wu et al. 2023, arXiv 2306.09341
HPSV2 = _hub(
    "hpsv2.1",
    "HPS v2.1",
    "xswu/HPSv2",
    "HPS_v2.1_compressed.pt",
    license="Apache-2.0",
)
# Kirstain et al. 2023, arXiv 2305.01569
PICKSCORE = _hub(
    "pickscore-v1",
    "PickScore v1",
    "yuvalkirstain/PickScore_v1",
    "model.safetensors",
    "config.json",
    license="MIT",
    megabytes=3944,
)
# Xu et al. 2023, arXiv 2304.05977; its text is read with BERT's vocabulary
IMAGEREWARD = Weights(
    "imagereward",
    "ImageReward v1.0 and BERT's vocabulary",
    (
        RemoteFile("ImageReward.pt", "hf://zai-org/ImageReward/ImageReward.pt"),
        RemoteFile("vocab.txt", "hf://google-bert/bert-base-uncased/vocab.txt"),
    ),
    "Apache-2.0",
)
HED = _annotator(
    "hed", "HED of ControlNet", "ControlNetHED.pth", license="Apache-2.0", megabytes=59
)
PIDINET = _annotator(
    "pidinet", "PiDiNet", "table5_pidinet.pth", license="non-commercial research", megabytes=3
)
LINEART = _annotator("lineart", "Informative Drawings", "sk_model.pth", license="MIT", megabytes=17)
OPENPOSE = _annotator(
    "openpose-body", "OpenPose body", "body_pose_model.pth", license="non-commercial", megabytes=209
)
# Ranftl et al. 2021, arXiv 2103.13413
DPT_LARGE = _hub(
    "dpt-large",
    "DPT-Large",
    "Intel/dpt-large",
    "config.json",
    "model.safetensors",
    license="Apache-2.0",
    megabytes=1372,
)
# Xiao et al. 2018, arXiv 1807.10221, on ConvNeXt; 150 classes of ADE20K
UPERNET = _hub(
    "upernet-convnext-small",
    "UPerNet ConvNeXt-S on ADE20K",
    "openmmlab/upernet-convnext-small",
    "config.json",
    "model.safetensors",
    license="MIT",
    megabytes=328,
)

CATALOG = {
    weights.name: weights
    for weights in (
        CLIP_L14,
        CLIP_L14_336,
        INCEPTION,
        DINOV2_L,
        ALEXNET,
        VGG16,
        CSD,
        HPSV2,
        PICKSCORE,
        IMAGEREWARD,
        HED,
        PIDINET,
        LINEART,
        OPENPOSE,
        DPT_LARGE,
        UPERNET,
    )
}
