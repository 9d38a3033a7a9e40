# What every image of this repository starts from. It needs no registry.
FROM scratch
COPY generated/init /bin/init
ENV IMAGE_NAME=base-image PATH=/bin
ENTRYPOINT ["/bin/init"]
