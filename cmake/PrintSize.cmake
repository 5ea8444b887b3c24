# Prints what a program weighs without its symbols.
execute_process(COMMAND ${strip} -o ${program}.stripped ${program} COMMAND_ERROR_IS_FATAL ANY)
file(SIZE ${program}.stripped bytes)
file(REMOVE ${program}.stripped)
cmake_path(GET program FILENAME name)
message("${name}, stripped: ${bytes} bytes")
