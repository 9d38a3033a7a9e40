FROM base-image
COPY generated/peek /bin/peek
RUN ["/bin/peek", "/bin"]
ENV IMAGE_NAME=toolbox
CMD ["/bin/peek", "/bin"]
