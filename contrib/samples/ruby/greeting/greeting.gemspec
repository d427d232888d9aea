Gem::Specification.new do |spec|
  spec.name = "greeting"
  spec.version = "1.0.0"
  spec.summary = "What the sample says"
  spec.authors = ["Mooring"]
  spec.files = ["lib/greeting.rb"]
end
