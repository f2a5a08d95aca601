// An HTTP server with a file of the size the path says, for the benchmarks that fetch.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

const block = Buffer.alloc(64 * 1024, 'flowpost');

const server = createServer((request, response) => {
  const size = Number(request.url?.slice(1));
  response.writeHead(200, { 'content-length': size, 'content-type': 'application/octet-stream' });
  let left = size;
  const write = (): void => {
    while (left > 0) {
      const piece = left < block.length ? block.subarray(0, left) : block;
      left -= piece.length;
      if (!response.write(piece)) {
        response.once('drain', write);
        return;
      }
    }
    response.end();
  };
  write();
});
server.listen(0, '127.0.0.1', () => {
  process.send?.({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
});
