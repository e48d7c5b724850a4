// Holds TCP 8080 and UDP 9000 until it is told to end.
import { upnpNat } from '/mnt/clients/npm/nat-port-mapper1/node_modules/@achingbrain/nat-port-mapper/dist/src/index.js'

const client = await upnpNat()
const ports = [{ localPort: 8080, protocol: 'TCP' }, { localPort: 9000, protocol: 'UDP' }]

process.on('SIGTERM', async () => {
  for (const port of ports) {
    await client.unmap(port)
  }
  process.exit()
})
console.log(await client.externalIp())
for (const port of ports) {
  await client.map(port)
}
setInterval(() => {}, 1000)
