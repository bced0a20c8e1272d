"""``isthmus testbed run storm``: bursts of calls of many functions while instances are killed.

Every call must have one outcome: the right answer, or a refusal that says why.
"""
