# Debian's Python, with pip and virtual environments, for the user of `base`.
FROM base
USER root
RUN apt-get update --error-on=any && apt-get install -y --no-install-recommends python3 python3-pip python3-venv python-is-python3 && rm -rf /var/lib/apt/lists/*
USER user
CMD ["python3"]
