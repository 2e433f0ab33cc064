"""Looks for what is wrong with a centre, and says what to do: changes nothing, blocking.

One file for each thing that is looked at. Each check answers with findings; what
needs a part that is missing is not tried, and says so: one cause is one finding.
A centre may run meanwhile or not.
"""
