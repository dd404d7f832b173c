# frozen_string_literal: true

# Starts the runtime client before its function is known: see the orders in clients.rs. What this file requires is in
# memory when the function comes.
require_relative 'virga_runtime'

VirgaRuntime::Ahead.boot
