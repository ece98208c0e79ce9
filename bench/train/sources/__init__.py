"""Sources of captioned pictures: folders, tar shards, parquet tables, datasets, lists of links."""
