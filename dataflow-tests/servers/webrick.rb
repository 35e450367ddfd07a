# ruby webrick.rb PORT
require 'webrick'

server = WEBrick::HTTPServer.new(Port: ARGV[0].to_i, BindAddress: '127.0.0.1', AccessLog: [],
                                 Logger: WEBrick::Log.new(File::NULL))
server.mount_proc '/' do |request, response|
  case request.path
  when %r{\A/s/}
    response.chunked = true
    response.body = proc { |out| 20.times { out.write('ab') } }
  when %r{\A/l/}
    response.chunked = true
    response.body = proc { |out| 10.times { out.write('x' * 12_000) } }
  else
    response.body = "plain #{request.path}\n"
  end
end
trap('TERM') { server.shutdown }
server.start
