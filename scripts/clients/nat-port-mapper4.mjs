// Holds TCP 8080 and UDP 9000 by the protocol given until it is told to end.
import { pmpNat, upnpNat } from '/mnt/clients/npm/nat-port-mapper4/node_modules/@achingbrain/nat-port-mapper/dist/src/index.js'

const host = '192.168.50.10'
const gateways = []

async function hold (gateway) {
  gateways.push(gateway)
  await gateway.map(8080, host, { protocol: 'tcp' })
  await gateway.map(9000, host, { protocol: 'udp' })
  console.log(await gateway.externalIp())
}

process.on('SIGTERM', async () => {
  for (const gateway of gateways) {
    await gateway.unmap(8080, { protocol: 'tcp' })
    await gateway.unmap(9000, { protocol: 'udp' })
    await gateway.stop()
  }
  process.exit()
})
if (process.argv[2] === 'pmp') {
  await hold(pmpNat('192.168.50.1'))
} else {
  for await (const gateway of upnpNat().findGateways({ signal: AbortSignal.timeout(10000) })) {
    console.log(gateway.host, gateway.family)
    await hold(gateway).catch(console.error)
  }
}
setInterval(() => {}, 1000)
