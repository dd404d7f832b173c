# Serves a WSGI or ASGI application. A file of its own, as short as can be: see bootstrap.py.
import virga_web

virga_web.main()
