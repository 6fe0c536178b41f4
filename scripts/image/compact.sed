# entrypoint without comments and indentation, so that it fits into a container's command. Nothing in it depends on either.
/^[[:space:]]*#/d
s/^[[:space:]]*//
/^$/d
