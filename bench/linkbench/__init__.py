"""Working in a sandbox's files over a link with a delay: sbxfs and its peers. bench/README.md is the manual."""
