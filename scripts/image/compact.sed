# entrypoint without comments and indentation, so that it fits into what a launch may override. Nothing in it depends on either.
/^[[:space:]]*#/d
s/^[[:space:]]*//
/^$/d
