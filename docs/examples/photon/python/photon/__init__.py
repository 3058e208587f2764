"""The Python side of the photon example: muons before, detectors after light.

muons     -- the generator tasks, as classes with the IPModule interface
response  -- sensor electronics and trigger; detector-a runs it as a program
             (bin/photon-detector)
detector  -- the same as a class, for detector-b

All randomness comes from the seed a task is given, so the same seed writes the
same bytes. Python's standard library is all that is needed.
"""
