"""Damaged and hostile inputs for every reader, made from a seed, and the check that each passes.

values.py    JSON values: fields dropped, types changed, nested, huge, hostile
files.py     bytes of any file: flipped, cut, doubled, replaced by another kind of file
images.py    encoded images: sizes that lie, broken chunks, other formats
tables.py    Arrow tables: columns and cells; written as parquet or arrow
tars.py      members and headers of archives
targets.py   one entry a format: its clean files, its source, which mutators damage it
robots.py    the same for robot sets
drive.py     everything that the product does with a source, and the rules that it must keep
pool.py      worker processes that are watched (time, memory, death) and started again
"""
