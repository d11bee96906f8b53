"""The simulator's side: files that run under an interpreter of their own, with the simulator and without our package.

They import the standard library, NumPy, their simulator and each other, in Python 3.8 syntax (a test holds them to it).
"""
