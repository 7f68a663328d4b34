# Debian's Node.js with npm, for the user of `base`.
FROM base
USER root
RUN apt-get update --error-on=any && apt-get install -y --no-install-recommends nodejs npm && rm -rf /var/lib/apt/lists/*
USER user
CMD ["node"]
