"""CLIP, SigLIP and CLIPA, small enough to read: one concept, one file."""
