// npm run mock: the console on made-up data, at the printed address.
import { startMock } from './server.mjs';

const mock = await startMock({ rows: Number(process.env.ROWS ?? 20_000), port: Number(process.env.PORT ?? 8425) });
console.log(`console ${mock.url}/   tokens argus_pat_admin, argus_pat_support, argus_pat_tenants`);
