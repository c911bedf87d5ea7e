"""Apache Kafka from Maven Central for the integration tests: no Docker, one Java process a broker."""
