# A Rack application for puma, unicorn and thin.
class Pieces
  def initialize(piece, count) = (@piece, @count = piece, count)
  def each = @count.times { yield @piece }
end

run lambda { |env|
  path = env['PATH_INFO']
  headers = { 'Content-Type' => 'text/plain' }
  next [200, headers, Pieces.new('ab', 20)] if path.start_with?('/s/')
  next [200, headers, Pieces.new('x' * 12_000, 10)] if path.start_with?('/l/')

  body = "plain #{path}\n"
  [200, headers.merge('Content-Length' => body.bytesize.to_s), [body]]
}
