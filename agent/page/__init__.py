"""The page that a device shows to who stands before it: read-only, without network or script."""
