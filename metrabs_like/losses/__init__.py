"""Pure, maskable losses."""
