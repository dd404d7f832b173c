# Runs a package manager in this function's sandbox and hands over what it has made, piece by piece.
require 'base64'
require 'fileutils'
require 'open3'
require 'rbconfig'

WORK = '/tmp/work'.freeze
ARCHIVE = '/tmp/made.tar'.freeze

def handler(event:, context:)
  return { data: Base64.strict_encode64(IO.binread(ARCHIVE, event['size'], event['offset']) || '') } if event['op'] == 'read'

  FileUtils.rm_rf(WORK)
  FileUtils.cp_r('project', WORK)
  # What this runtime set for itself is not the package manager's.
  environment = { 'GEM_PATH' => nil, 'GEM_HOME' => nil, 'RUBYLIB' => nil, 'RUBYOPT' => nil }.merge(event['env'], 'HOME' => '/tmp')
  said = +''
  [*event['steps'], ['tar', '-cf', ARCHIVE, *event['collect']]].each do |step|
    program = step.map { |word| word == '{interpreter}' ? RbConfig.ruby : word }
    begin
      output, status = Open3.capture2e(environment, *program, chdir: WORK, stdin_data: '')
    rescue Errno::ENOENT
      return { missing: program[0], said: said }
    end
    said = (said + output.scrub)[-20_000..] || said + output.scrub
    return { code: status.exitstatus || 128 + status.termsig, said: said } unless status.success?
  end
  { code: 0, said: said, size: File.size(ARCHIVE) }
end
