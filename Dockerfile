# Rudder with all that a host of a job needs. Build: docker build -t rudder .
FROM python:3.11-slim-bookworm
RUN apt-get update \
 && apt-get install -y --no-install-recommends iproute2 util-linux openssh-client libgomp1 \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/rudder
COPY . .
RUN pip install --no-cache-dir -c constraints.txt . \
 && python -m rudder.training.warm_up \
 && python -m rudder.bench.simulated.warm_up
WORKDIR /job
ENTRYPOINT ["rudder"]
CMD ["--help"]
