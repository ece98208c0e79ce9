"""Workers: processes on this machine or on a Ray cluster that share the batches of a plan.

Nothing here knows of images: a program is opened once in each worker and answers jobs in pieces.
"""
