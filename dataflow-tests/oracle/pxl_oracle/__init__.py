"""An independent, slow and obvious evaluator of PxL scripts over rows in files.

It shares no code with the engine: it was written from the language reference and the contract
alone, so that a disagreement between the two points at a bug in one of them or at a sentence
that can be read in two ways.
"""
