# The leaderboard and the human study, without what renders images (torch and the models' libraries).
# docs/deploy.md says how to run it.
# The image is pinned by the digest of its index, for all platforms: scripts/pin writes it.
ARG PYTHON_IMAGE=python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7
FROM ${PYTHON_IMAGE} AS build
COPY docker/constraints.txt /constraints.txt
RUN pip install --no-cache-dir --constraint /constraints.txt uv
COPY . /src
RUN uv venv /opt/xbench \
    && uv pip install --no-cache --compile-bytecode --python /opt/xbench/bin/python \
        --constraints /constraints.txt "/src[leaderboard]"

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 xbench \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home \
        --shell /usr/sbin/nologin xbench \
    && install -d -o xbench -g xbench -m 700 /data && install -d /srv/runs
COPY --from=build /opt/xbench /opt/xbench
ENV PATH=/opt/xbench/bin:$PATH \
    HOME=/data \
    PYTHONDONTWRITEBYTECODE=1 \
    XBENCH_CACHE=/data/cache \
    XBENCH_VOTES=/data/votes.sqlite
WORKDIR /srv
# a number, so that a cluster can check that it is not root
USER 10001:10001
VOLUME /data
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", \
    "import urllib.request as web; web.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
# runs mounted on /srv/runs are shown, without any the results of pocket that come with xbench
ENTRYPOINT ["xbench", "leaderboard", "--host", "0.0.0.0", "--port", "8501"]
