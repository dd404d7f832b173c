# frozen_string_literal: true

# Serves a Rack application: its `config.ru`, with the server among its gems. Starts what Gemfile or the installed gems
# have, puma before others.
config = ARGV.fetch(0)
port = ENV.fetch('PORT')
Dir.chdir(File.dirname(config))
if File.file?('Gemfile') && Dir.exist?('vendor/bundle')
  ENV['BUNDLE_PATH'] ||= 'vendor/bundle'
  require 'bundler/setup'
end

def gem?(name)
  !Gem::Specification.find_by_name(name).nil?
rescue Gem::LoadError
  false
end

if gem?('puma')
  exec(RbConfig.ruby, Gem.bin_path('puma', 'puma'), '-b', "tcp://0.0.0.0:#{port}", '-e', 'production', config)
end
rackup = { 'rackup' => 'rackup', 'rack' => 'rackup' }.find do |name, program|
  gem?(name) && Gem::Specification.find_by_name(name).executables.include?(program)
end
abort("#{config} needs the gem puma or rackup, in its Gemfile or on the host") unless rackup
exec(RbConfig.ruby, Gem.bin_path(*rackup), '-o', '0.0.0.0', '-p', port, '-E', 'production', config)
