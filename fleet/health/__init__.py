"""How devices are: state words, reasons and sums over a fleet, from what was last heard. Pure."""
