# It has no hooks: the engine receives dependency/toolbox/ without a copy of it
# ever being made in the tree.
FROM base-image
COPY dependency/toolbox/generated/ /opt/toolbox/
ENV IMAGE_NAME=probe
CMD ["/opt/toolbox/peek", "/opt/toolbox/SHA256SUMS"]
