"""The same question with asyncio.

The call has the same name as the synchronous one: `acreate`, which older texts use, is gone, and
what makes it asynchronous is the client.
"""

import asyncio

from openai import AsyncOpenAI


async def ask(question, model="gpt-4o"):
    async with AsyncOpenAI() as client:
        completion = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}])
        return completion.choices[0].message.content


if __name__ == "__main__":
    print("Response:", asyncio.run(ask("Hello, without a retry loop!")))
