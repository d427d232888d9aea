# Makes the build variant out of the run variant. Runs inside of it as root.
. /mnt/shared.sh

install_packages /mnt/build.packages
install -m 755 /mnt/uv /usr/local/bin/uv
# Add-ons in C++ are built with the headers of Debian's package, which nothing has to fetch. npm reads this; yarn does
# not, and would fetch a node-gyp of its own.
echo nodedir=/usr >>/usr/local/lib/node_modules/npm/npmrc
install -m 755 /mnt/node-gyp /usr/local/bin/node-gyp

finish
