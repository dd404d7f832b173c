# Starts the runtime client before its function is known: see the orders in clients.rs. What this file imports is in
# memory when the function comes.
import virga_template

virga_template.boot()
