# A web app with a gem that lies in the repository; its own small server, so that no other gem is needed.
require "bundler/setup"
require "greeting"
require "socket"

server = TCPServer.new("0.0.0.0", Integer(ENV.fetch("PORT", "8000")))
trap("TERM") { exit }

loop do
  Thread.new(server.accept) do |client|
    nil until client.gets.to_s.strip.empty?
    body = "<h1>#{Greeting.text}</h1>\n"
    client.write("HTTP/1.1 200 OK\r\nContent-Length: #{body.bytesize}\r\nConnection: close\r\n\r\n#{body}")
    client.close
  end
end
