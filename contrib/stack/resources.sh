# Makes the image of servers of resources out of the base. Runs inside of it as root.
. /mnt/shared.sh

leave_out_documents
install_packages /mnt/resources.packages
# Debian's own clusters and instances: each server makes its data itself.
rm -rf /var/lib/postgresql/* /etc/postgresql/* /etc/redis /var/lib/redis
# PostgreSQL's compiler for long queries, a third of it all: without it they are interpreted.
rm -rf /usr/lib/*/libLLVM* /usr/lib/*/libz3* /usr/lib/postgresql/*/lib/bitcode /usr/lib/postgresql/*/lib/llvmjit*
install -d -m 1777 /app

finish
