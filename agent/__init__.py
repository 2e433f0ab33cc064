"""One device: what it wants, holds, serves and reports. Importing this loads nothing."""
