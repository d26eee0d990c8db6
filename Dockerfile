# sharpreel for a CPU: the command line and the web site.
#
#     docker build -t sharpreel .
#     docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/videos" sharpreel upscale video.mp4
#     docker run --rm --init -p 8000:8000 -v sharpreel:/data -e SHARPREEL_TOKEN=SECRET \
#         sharpreel serve --host 0.0.0.0
#
# The site then answers at http://localhost:8000. For another name add --public-host NAME, and for
# TLS put a proxy before it (docs/web.md).
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 sharpreel \
    && install --directory --owner sharpreel --mode 700 /data \
    && install --directory --owner sharpreel /videos

WORKDIR /opt/sharpreel
# The tested versions. They change less often than the source, so they are a layer of their own.
COPY requirements.txt requirements-dev.txt ./
RUN pip install --no-cache-dir --requirement requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --constraint requirements-dev.txt '.[web]'

# Whoever --user names can write to this home: downloads are cached there.
ENV HOME=/tmp SHARPREEL_DATA_DIR=/data
USER 1000:1000
VOLUME /data
EXPOSE 8000
WORKDIR /videos
ENTRYPOINT ["sharpreel"]
CMD ["--help"]
