module Greeting
  def self.text
    ENV.fetch("GREETING", "Hello from Ruby")
  end
end
