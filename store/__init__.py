"""What was computed, kept: Milvus fingerprints, Zarr node matrices, the catalogue ledger. No torch here."""
