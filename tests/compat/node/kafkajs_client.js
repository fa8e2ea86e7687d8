// kafkajs: the JavaScript client. Prints a line for each check as claims.py does.
'use strict'

const assert = require('node:assert/strict')
const { createRequire } = require('node:module')

const [bootstrap, prefix] = process.argv.slice(2)
const load = createRequire(`${process.env.KAFKAJS_MODULES}/`)
const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = load('kafkajs')
CompressionCodecs[CompressionTypes.Snappy] = load('kafkajs-snappy')

// An hour ago, so that neither retention nor the limit on early records applies.
const START = Math.floor(Date.now() / 1000) * 1000 - 3_600_000
const DEADLINE_MS = 40_000
const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy }

const kafka = new Kafka({
  clientId: 'kafkajs',
  brokers: [bootstrap],
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 100, retries: 8 },
})
const admin = kafka.admin()

/** Stopping a consumer waits for its running fetch, hence the short wait. */
const consumerOf = (group) =>
  kafka.consumer({
    groupId: `${prefix}-${group}`,
    sessionTimeout: 10_000,
    heartbeatInterval: 500,
    maxWaitTimeInMs: 300,
  })

/** The records of all producing checks: keys, a null key, a null value, headers, own timestamps. */
function records(count = 30) {
  return Array.from({ length: count }, (_, index) => ({
    partition: index % 3,
    key: index % 10 === 9 ? null : `key-${index % 7}`,
    value: index % 10 === 8 ? null : `value-${index}-${'x'.repeat(200)}`,
    headers: { index: String(index), same: ['1', '2'], empty: '' },
    timestamp: String(START + index * 1000),
  }))
}

const text = (bytes) => (bytes === null ? null : bytes.toString())

/** A record in the shape of `records`, from what the consumer was given. */
function received({ partition, message }) {
  const headers = {}
  for (const [name, value] of Object.entries(message.headers)) {
    headers[name] = Array.isArray(value) ? value.map(text) : text(value)
  }
  return { partition, key: text(message.key), value: text(message.value), headers, timestamp: message.timestamp }
}

const of = (list, partition) => list.filter((record) => record.partition === partition)

function expectSame(sent, found) {
  for (const partition of [0, 1, 2]) assert.deepEqual(of(found, partition), of(sent, partition))
}

/** Resolves once `holds`, and fails by name when it does not in time. */
async function until(holds, what) {
  const end = Date.now() + DEADLINE_MS
  while (!(await holds())) {
    assert.ok(Date.now() < end, `${what} did not happen`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

async function create(topic, numPartitions = 3, configEntries = []) {
  await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1, configEntries }] })
}

async function produce(topic, messages, { producer: options, ...send } = {}) {
  const producer = kafka.producer(options)
  await producer.connect()
  try {
    return await producer.send({ topic, messages, ...send })
  } finally {
    await producer.disconnect()
  }
}

/** Consumes exactly `count` records as a member of `group`, committing nothing. */
async function take(group, topic, count) {
  const consumer = consumerOf(group)
  const found = []
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({ autoCommit: false, eachMessage: async (message) => void found.push(received(message)) })
  try {
    await until(() => found.length >= count, `consuming ${count} records`)
    assert.equal(found.length, count)
  } finally {
    await consumer.disconnect()
  }
  return found
}

/** A member of a group that counts the partitions it owns. */
async function member(group, topic) {
  const consumer = consumerOf(group)
  const self = { owned: 0, leave: () => consumer.disconnect() }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    self.owned = (payload.memberAssignment[topic] ?? []).length
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic] })
  await consumer.run({ eachMessage: async () => {} })
  return self
}

const checks = {
  async admin_creates_alters_and_describes_a_topic() {
    const topic = `${prefix}-admin`
    await create(topic, 3, [{ name: 'retention.ms', value: '3600000' }])
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    assert.equal(topics[0].partitions.length, 3)
    await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
    await until(async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length === 5, 'five')
    const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
    await admin.alterConfigs({
      validateOnly: false,
      resources: [{ ...resource, configEntries: [{ name: 'max.message.bytes', value: '2000' }] }],
    })
    await until(async () => {
      const { resources } = await admin.describeConfigs({ includeSynonyms: true, resources: [resource] })
      const value = (name) => resources[0].configEntries.find((entry) => entry.configName === name).configValue
      return value('max.message.bytes') === '2000' && value('retention.ms') === '604800000'
    }, 'the altered config')
    assert.ok((await admin.listTopics()).includes(topic))
    assert.equal(await admin.createTopics({ topics: [{ topic, numPartitions: 1 }] }), false)
  },

  async admin_describes_the_cluster() {
    const { brokers, clusterId } = await admin.describeCluster()
    assert.equal(brokers.length, 1)
    assert.ok(clusterId)
  },

  async every_codec_comes_back_as_it_was_sent() {
    for (const [codec, compression] of Object.entries(CODECS)) {
      const topic = `${prefix}-codec-${codec}`
      await create(topic)
      await produce(topic, records(), { compression, acks: -1 })
      expectSame(records(), await take(`codec-${codec}`, topic, 30))
    }
  },

  async every_acks_is_answered() {
    const topic = `${prefix}-acks`
    await create(topic)
    for (const acks of [-1, 1, 0]) await produce(topic, records(), { acks })
    await take('acks', topic, 90)
  },

  async idempotent_producer_keeps_order() {
    const topic = `${prefix}-idempotent`
    await create(topic)
    const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    const sent = records(300)
    for (let start = 0; start < 300; start += 30) {
      const answers = await producer.send({ topic, messages: sent.slice(start, start + 30) })
      assert.deepEqual(answers.map(({ baseOffset }) => Number(baseOffset)), [start / 3, start / 3, start / 3])
    }
    await producer.disconnect()
    expectSame(sent, await take('idempotent', topic, 300))
  },

  async producer_is_refused_a_record_too_large() {
    const topic = `${prefix}-small`
    await create(topic, 3, [{ name: 'max.message.bytes', value: '2000' }])
    const large = [{ ...records(1)[0], value: 'x'.repeat(5000) }]
    await assert.rejects(produce(topic, large), { type: 'MESSAGE_TOO_LARGE' })
  },

  async group_resumes_from_its_commit() {
    const topic = `${prefix}-commit`
    const groupId = `${prefix}-commit`
    await create(topic)
    await produce(topic, records())
    const consumer = consumerOf('commit')
    let seen = 0
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({ autoCommit: false, eachMessage: async () => void seen++ })
    await until(() => seen === 30, 'consuming 30 records')
    await consumer.commitOffsets([
      { topic, partition: 0, offset: '4', metadata: 'four' },
      { topic, partition: 1, offset: '10' },
      { topic, partition: 2, offset: '7' },
    ])
    await consumer.disconnect()
    const found = await take('commit', topic, 9)
    assert.deepEqual([0, 1, 2].map((partition) => of(found, partition).length), [6, 0, 3])
    const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] })
    const first = partitions.find(({ partition }) => partition === 0)
    assert.deepEqual([first.offset, first.metadata], ['4', 'four'])
  },

  async group_rebalances() {
    const topic = `${prefix}-rebalance`
    await create(topic, 4)
    const first = await member('rebalance', topic)
    await until(() => first.owned === 4, 'the first member owning all')
    const second = await member('rebalance', topic)
    await until(() => first.owned === 2 && second.owned === 2, 'sharing the partitions')
    await second.leave()
    await until(() => first.owned === 4, 'the first member owning all again')
    await first.leave()
  },

  async admin_lists_describes_and_deletes_groups() {
    const groupId = `${prefix}-commit`
    const ids = async () => (await admin.listGroups()).groups.map((group) => group.groupId)
    assert.ok((await ids()).includes(groupId))
    const { groups } = await admin.describeGroups([groupId])
    assert.equal(groups[0].state, 'Empty')
    await admin.setOffsets({ groupId, topic: `${prefix}-commit`, partitions: [{ partition: 0, offset: '2' }] })
    const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [`${prefix}-commit`] })
    assert.equal(partitions.find(({ partition }) => partition === 0).offset, '2')
    await admin.deleteGroups([groupId])
    assert.ok(!(await ids()).includes(groupId))
  },

  async offsets_are_found_by_time() {
    const topic = `${prefix}-codec-none`
    const ends = await admin.fetchTopicOffsets(topic)
    assert.deepEqual(ends.map(({ low, high }) => [low, high]), [['0', '10'], ['0', '10'], ['0', '10']])
    const found = await admin.fetchTopicOffsetsByTimestamp(topic, Number(records()[14].timestamp))
    assert.equal(found.find(({ partition }) => partition === 2).offset, '4')
  },

  async records_are_deleted_up_to_an_offset() {
    const topic = `${prefix}-codec-gzip`
    // The admin client finds a topic's leaders here; without it, it cannot delete records.
    await admin.fetchTopicOffsets(topic)
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '6' }] })
    const ends = await admin.fetchTopicOffsets(topic)
    assert.equal(ends.find(({ partition }) => partition === 0).low, '6')
  },

  async transactions_work_or_are_refused() {
    const producer = kafka.producer({ transactionalId: `${prefix}-transaction`, idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    try {
      const transaction = await producer.transaction()
      await transaction.abort()
    } catch (error) {
      assert.equal(error.name, 'KafkaJSGroupCoordinatorNotFound')
    } finally {
      await producer.disconnect()
    }
  },

  async admin_deletes_topics() {
    const topic = `${prefix}-admin`
    await admin.deleteTopics({ topics: [topic] })
    await until(async () => !(await admin.listTopics()).includes(topic), 'the deletion')
  },
}

async function main() {
  await admin.connect()
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check()
      console.log(`ok ${name}`)
    } catch (error) {
      const place = (error.stack ?? '').split('\n').find((line) => line.includes('/tests/compat/')) ?? ''
      console.log(`not ok ${name}: ${`${error.name}: ${error.message.slice(0, 400)} ${place}`.replace(/\s+/g, ' ')}`)
    }
  }
  await admin.disconnect()
  console.log('done')
}

main().then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
