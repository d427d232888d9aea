# Fetches npm and yarn as they are published, into /mnt/out. Runs in a container that is thrown away after it.
#
# Debian's npm would be 387 packages (236 MB) in the image; npm itself is one archive of 3 MB. It only knows where its
# registry is and how to ask there: that much of it is used here.
. /mnt/shared.sh

leave_out_documents
install_packages /mnt/node.fetch
mkdir -p /mnt/out
cd /mnt/out
while read -r name version sum; do
    quietly npm pack --silent "$name@$version"
    mv "$name-$version.tgz" "$name.tgz"
    echo "$sum  $name.tgz" | quietly sha512sum --check --strict
done </mnt/node.packages
