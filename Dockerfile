# gemmule with Ray, without a compiler, for user 10001 and a read-only root:
#   docker build -t gemmule:0.1.0-cpu .
#   docker build -t gemmule:0.1.0-cuda --build-arg TORCH=cuda --build-arg TORCH_INDEX= .
# What runs is in docker/step.sh, so that tests/image can run the very same lines where there is no engine.
# The base is named by version; add its digest (PYTHON_IMAGE=python:…@sha256:…) where builds must be repeatable.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TORCH=cpu
# Where torch's CPU build comes from; what arrives has to have the hash in locks/torch-cpu.txt.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# More arguments of pip, such as a mirror.
ARG PIP_ARGS=
WORKDIR /src
COPY docker/step.sh docker/
RUN docker/step.sh compiler environment
COPY locks locks
RUN docker/step.sh packages
COPY . .
RUN docker/step.sh application compiled

FROM ${PYTHON_IMAGE} AS final
ARG TORCH=cpu
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gemmule" \
      org.opencontainers.image.description="Gemma 2 in three sizes behind one endpoint, on Ray (${TORCH})" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN --mount=type=bind,source=docker/step.sh,target=/tmp/step.sh /tmp/step.sh system user
COPY --from=build /opt/gemmule /opt/gemmule
# Without NVIDIA_VISIBLE_DEVICES: the device plugin says which GPUs a pod sees, and a pod that asks for none gets none.
ENV PATH=/opt/gemmule/bin:$PATH \
    HOME=/tmp \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
WORKDIR /opt/gemmule
USER 10001:10001
EXPOSE 8000 9000
CMD ["gemmule", "serve", "--host", "0.0.0.0"]
