import { Reader } from './reader.jsx';

// biome-ignore lint/style/noDefaultExport: Next wants it
export default function Page() {
  return <Reader />;
}
