"""The simulator's side: files for an interpreter that has the simulator and not our package.

They import the standard library, NumPy, their simulator and each other, in Python 3.8 syntax (a
test holds them to it).
"""
