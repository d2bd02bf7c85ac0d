# Everything in one image: the worker by default; the Prefect and MLflow servers are other commands of it (compose.yaml).
#
#   docker build -t vldac .                                   PyPI's torch: runs on CPU, and on NVIDIA GPUs where it is
#                                                             the CUDA build (x86-64)
#   docker build -t vldac --build-arg TORCH_INDEX=ADDRESS .   another build: ADDRESS is PyTorch's package index of CPU
#                                                             builds (2 GB less), or of another CUDA version
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS packages
ARG TORCH_INDEX=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /srv/vldac
# Without the code, so that an edit of it does not install everything again; the installation only points to this folder.
# NetHack pins an older gymnasium than all else here and runs with this one.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN pip install ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} -c constraints.txt \
      --config-settings editable_mode=compat -e '.[server,benchmarks]' \
    && pip install -c constraints.txt --no-deps nle minihack

FROM ${PYTHON_IMAGE}
# OpenGL for MiniWorld, git for the revision that a registered version carries. g++ compiles DeepSpeed's GPU kernels.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git libegl1 libfreetype6 libgl1 libglu1-mesa \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 10001 vldac && install -d -o vldac -g vldac /srv/vldac
COPY --from=packages /opt/venv /opt/venv
WORKDIR /srv/vldac
COPY --chown=vldac:vldac . .
USER vldac
# Made here, so that a volume mounted on them belongs to this user.
RUN mkdir -p .local .dvc/cache data models runs
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/srv/vldac \
    PYTHONUNBUFFERED=1 \
    VLDAC_ROOT=/srv/vldac \
    PREFECT_HOME=/srv/vldac/.local/prefect \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    DO_NOT_TRACK=1
# A worker is of use as long as it reaches its server; that it lives is seen to by `vldac serve`.
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['PREFECT_API_URL'] + '/health', timeout=5)"]
CMD ["vldac", "serve", "--only", "worker"]
