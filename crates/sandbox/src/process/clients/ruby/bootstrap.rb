# frozen_string_literal: true

# Starts the runtime client for a function that is known.
require_relative 'virga_runtime'

VirgaRuntime.main
