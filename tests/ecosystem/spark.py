"""PySpark reads `sparks`, and writes it to `batched` by a batch and to `streamed` by a structured stream.

Arguments: bootstrap, directory of the connector's jars, a directory for checkpoints, how many records there are.
"""

import glob
import sys

from pyspark.sql import SparkSession

BOOTSTRAP, JARS, DIRECTORY, COUNT = sys.argv[1:5]
COUNT = int(COUNT)

# Spark brings its own jars of these.
PARTS = ("spark-sql-kafka", "spark-token-provider-kafka", "kafka-clients", "commons-pool2")
CONNECTOR = [jar for jar in glob.glob(f"{JARS}/*.jar") if jar.rsplit("/", 1)[1].startswith(PARTS)]

spark = (
    SparkSession.builder.master("local[2]")
    .appName("ottla")
    .config("spark.jars", ",".join(CONNECTOR))
    .config("spark.ui.enabled", "false")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.sql.shuffle.partitions", "2")
    .getOrCreate()
)
SOURCE = {"kafka.bootstrap.servers": BOOTSTRAP, "subscribe": "sparks", "startingOffsets": "earliest"}


def expect(found, expected, what):
    if found != expected:
        sys.exit(f"{what}: {found}, not {expected}")


batch = spark.read.format("kafka").options(**SOURCE).load()
expect(batch.count(), COUNT, "records of the batch")
expect(batch.select("key").distinct().count(), 10, "keys of the batch")
batch.select("key", "value").write.format("kafka").option("kafka.bootstrap.servers", BOOTSTRAP).option(
    "topic", "batched"
).save()

stream = spark.readStream.format("kafka").options(**SOURCE).option("maxOffsetsPerTrigger", 3000).load()
query = (
    stream.select("key", "value")
    .writeStream.format("kafka")
    .option("kafka.bootstrap.servers", BOOTSTRAP)
    .option("topic", "streamed")
    .option("checkpointLocation", f"{DIRECTORY}/checkpoint")
    .trigger(availableNow=True)
    .start()
)
if not query.awaitTermination(180):
    sys.exit("the stream does not end")
spark.stop()
print("done")
