FROM base-image
COPY generated/serve /bin/serve
COPY dependency/componentA/page/ /page/
COPY dependency/test-build/ /page/
RUN ["/bin/serve", "--check", "/page"]
ENV IMAGE_NAME=component-b
EXPOSE 8080
CMD ["/bin/serve", "/page"]
