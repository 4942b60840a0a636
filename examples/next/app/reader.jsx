'use client';

// Reads a character in a picture that the visitor chooses. The model is made in an effect, which runs in the browser
// alone: Next renders this component on the server too.

import { useEffect, useState } from 'react';
import { VGGNet } from 'vggnet';

export function Reader() {
  const [model, setModel] = useState();
  const [text, setText] = useState('');

  useEffect(() => {
    const loading = VGGNet.create('glyphs');
    loading.then(
      (loaded) => {
        setModel(loaded);
        setText(`Ready, on ${loaded.device.backend} with ${loaded.device.threads} threads`);
      },
      (error) => setText(error.message),
    );
    return () => {
      loading.then((loaded) => loaded.dispose()).catch(() => {});
    };
  }, []);

  async function read(event) {
    try {
      const [best] = await model.classify(event.target.files[0]);
      setText(`${best.label} ${(best.probability * 100).toFixed(1)}%`);
    } catch (error) {
      setText(error.message);
    }
  }

  return (
    <>
      <label>
        A picture of one character: <input type="file" accept="image/*" disabled={!model} onChange={read} />
      </label>
      <output>{text}</output>
    </>
  );
}
