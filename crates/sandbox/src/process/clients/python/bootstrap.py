# Starts the runtime client. A file of its own, as short as can be: Python compiles the script it is
# given at every start, but keeps the modules that the script imports compiled.
import virga_runtime

virga_runtime.main()
