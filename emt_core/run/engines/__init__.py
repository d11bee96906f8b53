"""Where the shards of a stage are made: runtime.engine names a file of this folder.

base.py    the work as a file, and what each worker does with it: the same on all engines
local.py   processes of this machine, one for each GPU
ray.py     actors of a Ray cluster, one GPU each
slurm.py   jobs of Slurm, through submitit

An engine has `processes(runtime)`, how many workers at the most (0: none is worth it), and
`run(job, count, progress)`, which starts workers, starts those again that end too early, and
returns when all shards are done. It holds no results: shards are files (run/shards.py).
"""
