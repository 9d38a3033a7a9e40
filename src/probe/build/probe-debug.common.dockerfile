# Made from the component's other image, and so after it.
FROM probe
COPY notes.txt /notes.txt
ENV IMAGE_NAME=probe-debug
CMD ["/opt/toolbox/peek", "/notes.txt", "/opt/toolbox"]
